package httpapi

//go:generate go tool oapi-codegen -config api/types.cfg.yaml openapi.yaml
//go:generate go tool oapi-codegen -config api/server.cfg.yaml openapi.yaml
//go:generate go tool oapi-codegen -config api/client.cfg.yaml openapi.yaml

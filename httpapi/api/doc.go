// Package api is what is generated from httpapi/openapi.yaml: the types of the
// REST API, the interface that its server fulfils, and a client for programs.
package api

// Package httpapi serves the REST API: openapi.yaml is the contract, from which
// types, routes and the client in package api are generated, and against which
// every request is checked.
//
// The document says more than what goes in and out: each operation names the
// role that may call it, what becomes of callers who are restricted to streams
// or tenants, and whether it is audited. One chain of middleware enforces that
// for all operations, so a handler that is reached may go about its work. Handlers
// hold no logic that the command line would need too: that is in the packages
// below.
package httpapi

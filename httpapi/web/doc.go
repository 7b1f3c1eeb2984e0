// Package web serves the page: what is archived, what runs, what needs a person, and
// the forms by which people start and steer replays and rebuilds.
//
// Everything is rendered here, in templates that escape what they are given; the few
// scripts make what is there livelier, and nothing but live views and charts needs
// them. Every page has an address that can be shared. Forms post to handlers of this
// package, which answer with a redirect.
//
// The page decides nothing about who may do what: a Gate, which the API has too, does.
package web

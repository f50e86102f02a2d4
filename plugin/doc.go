// Package plugin is Docker's side of the driver: the volume plugin protocol for
// dockerd, and the admin API for the command line. It translates; what a volume
// is and does is package volume's.
package plugin

// Package volume knows what a Docker volume on GlusterFS is: its name and
// options, the catalog of definitions on the store, the trash, who on this node
// uses it, and the Manager, whose methods are the life of a volume.
//
// It speaks no protocol of Docker's (package plugin does), and does on the
// store only what gluster.FS offers.
package volume

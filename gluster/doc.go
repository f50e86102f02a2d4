// Package gluster knows what a store is: its address on a Gluster volume, and
// FS, the few file operations that the catalog of volumes needs there.
//
// It starts no client and mounts nothing (package mount does), and it knows
// nothing of volumes or of Docker.
package gluster

// Package mount runs the Gluster clients of this node: the glusterfs processes
// that mount a Gluster volume with FUSE. It starts them, verifies what they
// mounted, adopts them after a restart of the driver, counts their users and
// ends them behind the last one.
//
// It knows nothing of Docker or of volumes: a user is a string, and what lies
// on a mount is somebody else's. Do not use it for other file systems.
package mount

// Package client is what all clients of Gluster on this node have in common,
// whether they are glusterfs processes or libgfapi within this one: which server
// they ask first, the log that they write, and what it tells about a start that
// failed.
package client

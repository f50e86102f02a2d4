//go:build race

package gluster_test

const raceDetector = true

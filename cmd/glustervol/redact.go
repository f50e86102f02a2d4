package main

import (
	"regexp"
	"strings"
)

// redacted stands for what nobody else has to see.
const redacted = "(left out)"

// Which lines of logs are left out as a whole. Gluster's clients log their volume file,
// with what lets a client write to the bricks; and dockerd, which debugs, the requests
// that make containers, with the values of their environments.
var secretLine = regexp.MustCompile(`(?i)option +(username|password)\b|\\?"Env\\?" *:|form data:`)

// secretValues are what is left out of a line.
var secretValues = []*regexp.Regexp{
	regexp.MustCompile(`(?i)((?:[\w.-]*(?:password|passwd|secret|token|credential|api_?key)[\w.-]*)\\?["']? *[=:] *\\?["']?)[^\s"'\\,;]+`),
	regexp.MustCompile(`(://)[^/\s:@]+:[^/\s@]+(@)`),
}

// privateKey is one in PEM.
var privateKey = regexp.MustCompile(`(?s)-----BEGIN [A-Z ]*PRIVATE KEY-----.*?(-----END [A-Z ]*PRIVATE KEY-----|$)`)

// redact takes secrets out of a text of somebody else's.
func redact(text string) string {
	text = privateKey.ReplaceAllString(text, redacted)
	var b strings.Builder
	for line := range strings.Lines(text) {
		if secretLine.MatchString(line) {
			line = redacted + "\n"
		}
		for _, secret := range secretValues {
			line = secret.ReplaceAllString(line, "${1}"+redacted+"${2}")
		}
		b.WriteString(line)
	}
	return b.String()
}

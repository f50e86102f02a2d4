package doctor

import (
	"context"
	"fmt"
	"maps"
	"net"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/glustervol/glustervol/gluster"
	"github.com/glustervol/glustervol/gluster/client"
	"github.com/glustervol/glustervol/volume"
)

// What is known of a Gluster volume comes from the volume file, in a StoreReport: any
// client has it, whether this node has glusterd or not, and it has all options that were
// set. (What the bricks alone are told, such as server quorum, is not in it.) The same
// client tells which bricks it has reached; their ports are in no volume file, and change.

// reachTime is how long a server may take to accept a connection.
const reachTime = 3 * time.Second

// reach resolves a server's name, and connects to its glusterd.
func reach(ctx context.Context, server string) error {
	ctx, cancel := context.WithTimeout(ctx, reachTime)
	defer cancel()
	if _, err := net.DefaultResolver.LookupHost(ctx, server); err != nil {
		return fmt.Errorf("its name cannot be resolved on this node: %w", err)
	}
	conn, err := new(net.Dialer).DialContext(ctx, "tcp", net.JoinHostPort(server, strconv.Itoa(client.GlusterdPort)))
	if err != nil {
		return fmt.Errorf("no glusterd answers: %w", err)
	}
	return conn.Close()
}

// reachAll is reach for many at once. It returns the errors of those that failed.
func reachAll(ctx context.Context, servers []string) map[string]error {
	type answer struct {
		server string
		err    error
	}
	answers := make(chan answer, len(servers))
	for _, s := range servers {
		go func() { answers <- answer{s, reach(ctx, s)} }()
	}
	failed := map[string]error{}
	for range servers {
		if a := <-answers; a.err != nil {
			failed[a.server] = a.err
		}
	}
	return failed
}

const serverAdvice = "mend DNS or /etc/hosts, start glusterd there, open port 24007"

// checkServers is about those that a store's address names. One is enough for a client.
func (n *Node) checkServers(ctx context.Context, address gluster.Address) (found []Finding) {
	failed := reachAll(ctx, address.Servers)
	for _, server := range address.Servers {
		switch err := failed[server]; {
		case err == nil:
			found = append(found, ok("%s accepts connections on port %d", server, client.GlusterdPort))
		case len(failed) == len(address.Servers):
			found = append(found, failure(serverAdvice, "%s: %v", server, err))
		default:
			found = append(found, warning(serverAdvice, "%s: %v", server, err))
		}
	}
	if len(address.Servers) == 1 {
		found = append(found, warning("name more of the servers in the store's address: any of them will do", "the address names one server: while that is away, no client can start"))
	}
	return found
}

// checkBricks is about those that the volume file names.
func (n *Node) checkBricks(ctx context.Context, r volume.StoreReport) (found []Finding) {
	bricks := r.Graph.OfType(gluster.ClientType)
	if len(bricks) == 0 {
		return unknown(r)
	}
	failed := reachAll(ctx, hosts(bricks))
	for _, b := range bricks {
		host, name := b.Options["remote-host"], b.Options["remote-host"]+":"+b.Options["remote-subvolume"]
		err := failed[host]
		switch {
		case b.Connected != nil && *b.Connected:
			found = append(found, ok("%s is connected", name))
		case err != nil:
			found = append(found, failure(serverAdvice, "%s is NOT connected: %v", name, err))
		case b.Connected == nil:
			found = append(found, warning("'gluster volume status "+r.Graph.VolumeName()+"' on a server", "%s: whether it is connected is not known, its server is there", name))
		default:
			found = append(found, failure("'gluster volume status "+r.Graph.VolumeName()+"' on a server: start it if it does not run; else open ports 49152 to 60999",
				"%s is NOT connected, its server is there", name))
		}
	}
	return found
}

// hosts are those of bricks, each once.
func hosts(bricks []gluster.Translator) []string {
	names := map[string]bool{}
	for _, b := range bricks {
		names[b.Options["remote-host"]] = true
	}
	return slices.Sorted(maps.Keys(names))
}

// unknown stands for what the volume file would tell.
func unknown(r volume.StoreReport) []Finding {
	return one(skipped("not known, since the volume file is not: %s", r.GraphTrouble))
}

const arbiterAdvice = "add an arbiter, which takes little space: 'gluster volume add-brick %s replica 3 arbiter 1 SERVER:/BRICK'"

// checkReplication is about how many copies there are of each file.
func checkReplication(r volume.StoreReport) []Finding {
	if len(r.Graph) == 0 {
		return unknown(r)
	}
	sets, dispersed := r.Graph.OfType(replicateType), r.Graph.OfType("cluster/disperse")
	switch {
	case len(dispersed) > 0:
		return one(ok("dispersed: %d of %d bricks may be away", number(dispersed[0], "redundancy", 0), len(dispersed[0].Subvolumes)))
	case len(sets) == 0:
		return one(warning("a replica volume with an arbiter survives a server's death", "each file is on one brick only: while that is away, so is the file"))
	}
	for _, set := range sets {
		if len(set.Subvolumes) == 2 && set.Options["thin-arbiter"] == "" {
			return one(warning(fmt.Sprintf(arbiterAdvice, r.Graph.VolumeName()), "replica 2 without an arbiter: the two can part, and both have files that the other has not (split-brain)"))
		}
	}
	if arbiters := number(sets[0], "arbiter-count", 0); arbiters > 0 {
		return one(ok("replica %d, %d of it an arbiter", len(sets[0].Subvolumes), arbiters))
	}
	return one(ok("replica %d", len(sets[0].Subvolumes)))
}

const replicateType = "cluster/replicate"

// checkQuorum is about the clients' quorum. Without it, both sides of a network that is
// divided write, and the volumes' definitions are worth as little as the data.
func checkQuorum(r volume.StoreReport) []Finding {
	if len(r.Graph) == 0 {
		return unknown(r)
	}
	sets := r.Graph.OfType(replicateType)
	if len(sets) == 0 {
		return one(skipped("the Gluster volume is not replicated"))
	}
	for _, set := range sets {
		size, quorum := len(set.Subvolumes), set.Options["quorum-type"]
		if quorum == "" && size > 2 {
			quorum = "auto" // Gluster's default from three on
		}
		fixed := number(set, "quorum-count", 0)
		switch {
		case quorum == "auto" && size == 2:
			return one(warning(fmt.Sprintf(arbiterAdvice, r.Graph.VolumeName()), "auto, and replica 2: while the first of the two bricks is away, nothing can be written"))
		case quorum == "auto" || quorum == "fixed" && 2*fixed > size:
		case size == 2:
			return one(warning(fmt.Sprintf(arbiterAdvice, r.Graph.VolumeName()), "none: when the two bricks part, clients of both write on"))
		default:
			return one(failure(fmt.Sprintf("'gluster volume set %s cluster.quorum-type auto', with three bricks or an arbiter", r.Graph.VolumeName()),
				"cluster.quorum-type is %s (%d of %d bricks are enough to write): both sides of a divided network can write, and one loses", quorumName(quorum), max(fixed, 1), size))
		}
	}
	return one(ok("more than half of the bricks have to be there"))
}

func quorumName(quorum string) string {
	if quorum == "" {
		return "none"
	}
	return quorum
}

// number is an option that is one.
func number(t gluster.Translator, key string, otherwise int) int {
	n, err := strconv.Atoi(t.Options[key])
	if err != nil {
		return otherwise
	}
	return n
}

// setting is a volume option that hurts.
type setting struct {
	// name is what 'gluster volume set' calls it, and good what it should be.
	name, good string
	// translator is the type that has it in the volume file.
	translator string
	hurts      func(gluster.Translator) bool
	level      Level
	why        string
}

const (
	// longestPing is the longest network.ping-timeout in seconds with which a dead node's
	// late calls are over before others go on without it (ARCHITECTURE.md, "Several nodes":
	// 40 s of an operation and twice this are 130 s).
	longestPing = 45
	// shortestPing is the shortest with which a short hiccup is not taken for a death.
	shortestPing = 10
	// longestMemory is for how many seconds attributes may be remembered without word from
	// the bricks.
	longestMemory = 10
)

// hurtful are the options that hurt volumes of containers on several nodes. Sources are
// the options' own descriptions ('gluster volume set help'), and Gluster's documentation
// on split-brain and on sharding.
var hurtful = []setting{
	{
		"network.ping-timeout", "42", gluster.ClientType,
		func(t gluster.Translator) bool { return number(t, "ping-timeout", 42) > longestPing },
		Failure, "a dead node's last removal may reach the bricks when others have gone on without it",
	},
	{
		"network.ping-timeout", "42", gluster.ClientType,
		func(t gluster.Translator) bool { return number(t, "ping-timeout", 42) < shortestPing },
		Warning, "a short hiccup of the network is taken for a server's death, and locks are lost",
	},
	{
		"cluster.favorite-child-policy", "none", replicateType,
		func(t gluster.Translator) bool { return set(t, "favorite-child-policy", "none") },
		Warning, "a split-brain is ended by throwing one side's data away, without a word",
	},
	{
		"cluster.ensure-durability", "on", replicateType, func(t gluster.Translator) bool { return set(t, "ensure-durability", "on") },
		Warning, "what was written is lost when bricks lose their power",
	},
	{
		"cluster.halo-enabled", "no", replicateType, func(t gluster.Translator) bool { return set(t, "halo-enabled", "no") },
		Failure, "nodes far from each other do not see what the other has written, so that a volume in use may be removed",
	},
	{
		"cluster.lookup-unhashed", "on", "cluster/distribute", func(t gluster.Translator) bool { return set(t, "lookup-unhashed", "on") },
		Warning, "files may not be found behind a change of the bricks, and are taken for removed",
	},
	{
		"cluster.rsync-hash-regex", "", "cluster/distribute", func(t gluster.Translator) bool { return t.Options["rsync-hash-regex"] != "" },
		Warning, "glustervol's records are moved from brick to brick when they are renamed",
	},
	{
		"features.shard", "off", "features/shard", always,
		Warning, "it is made for images of virtual machines, which one client writes; to switch it off again on a volume with data destroys that",
	},
	{
		"performance.nl-cache", "off", "performance/nl-cache", always,
		Warning, "containers may not see for a minute what those on another node have created",
	},
	{
		"performance.md-cache-timeout", "1", "performance/md-cache",
		func(t gluster.Translator) bool {
			return number(t, "md-cache-timeout", 1) > longestMemory && truth(t.Options["cache-invalidation"]) != "on"
		},
		Warning, "containers may not see for so long what those on another node have changed",
	},
}

// always is for translators that are there only if their option is on.
func always(gluster.Translator) bool { return true }

// set tells whether an option was set to something else than good.
func set(t gluster.Translator, key, good string) bool {
	value := t.Options[key]
	return value != "" && value != good && truth(value) != truth(good)
}

// truth makes Gluster's words for yes and no one each; others stay.
func truth(value string) string {
	switch strings.ToLower(value) {
	case "on", "yes", "true", "enable", "1":
		return "on"
	case "off", "no", "false", "disable", "0":
		return "off"
	}
	return value
}

// checkOptions looks for volume options that hurt.
func checkOptions(r volume.StoreReport) (found []Finding) {
	if len(r.Graph) == 0 {
		return unknown(r)
	}
	for _, s := range hurtful {
		if !slices.ContainsFunc(r.Graph.OfType(s.translator), s.hurts) {
			continue
		}
		advice := fmt.Sprintf("'gluster volume set %s %s %s'", r.Graph.VolumeName(), s.name, s.good)
		switch {
		case s.name == "features.shard":
			advice = fmt.Sprintf("use another Gluster volume than %s for containers", r.Graph.VolumeName())
		case s.good == "":
			advice = fmt.Sprintf("'gluster volume reset %s %s'", r.Graph.VolumeName(), s.name)
		}
		found = append(found, Finding{Level: s.level, Text: s.name + ": " + s.why, Advice: advice})
	}
	if len(found) == 0 {
		found = one(ok("none is set that is known to hurt"))
	}
	return found
}

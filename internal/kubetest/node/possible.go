package node

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strings"
)

// programs are what pods are made with.
func programs() []string {
	return []string{"ip", "nft", "nsenter", "unshare", "setpriv", "mount", "chroot", "env", "sh", "sleep"}
}

// Possible says what this machine or this user lacks, and how to get it.
func Possible() error {
	if runtime.GOOS != "linux" {
		return errors.New("pods are network namespaces, which only Linux has")
	}
	if os.Geteuid() != 0 {
		return errors.New("pods are network namespaces, which take root: run this as root. A user namespace that an unprivileged user can make does not do, not even with the users of /etc/subuid: " +
			"containers run as several users (root, the proxy's 1337, the servers' 65532, the application's) on copies of this machine's files, and those belong to its root, whom that namespace does not have")
	}
	if n := users(); n < mostUsers {
		return fmt.Errorf("this user namespace has %d users that follow each other, and containers run as several, up to %d: map as many", n, mostUsers-1)
	}
	if st, err := os.Stat("/usr"); err == nil && owner(st) != 0 {
		return errors.New("this user namespace does not have the root of this machine, to whom its files belong, and containers could add nothing to their copies of them: map user 0 to user 0, which takes root")
	}
	if _, err := os.Stat("/proc/sys/net/ipv6"); err != nil {
		return fmt.Errorf("pods have addresses of both families, and this kernel has no IPv6: %w", err)
	}
	var missing []string
	for _, p := range programs() {
		if _, err := exec.LookPath(p); err != nil {
			missing = append(missing, p)
		}
	}
	if len(missing) > 0 {
		return fmt.Errorf("not installed: %s (Debian: iproute2, nftables, util-linux, mount, coreutils)", strings.Join(missing, ", "))
	}
	return nil
}

// mostUsers is how many users a namespace needs: the servers' is the highest, 65532.
const mostUsers = 65533

// users are how many follow each other in our namespace, from root on.
func users() int {
	text, err := os.ReadFile("/proc/self/uid_map")
	if err != nil {
		return 0
	}
	next := 0
	for line := range strings.Lines(string(text)) {
		var inside, outside, n int
		if _, err := fmt.Sscan(line, &inside, &outside, &n); err != nil || inside != next {
			break
		}
		next += n
	}
	return next
}

// inUserNamespace: the machine's own has all users.
func inUserNamespace() bool { return users() != 1<<32-1 }

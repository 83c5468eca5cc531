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

// possible says what this machine or this user lacks, and how to get it.
func possible() error {
	if runtime.GOOS != "linux" {
		return errors.New("pods are network namespaces, which only Linux has")
	}
	if os.Geteuid() != 0 {
		return errors.New("pods are network namespaces, which take root: run this as root, or as root of a user namespace with many users, " +
			"in a network of its own (unshare --user --map-root-user --map-auto --net --mount, then ip link set lo up)")
	}
	if users := users(); len(users) == 3 && users[2] == "1" {
		return errors.New("this user namespace has one user, and containers run as several: map more (unshare --map-auto, with newuidmap and /etc/subuid)")
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

// users are the ranges of users of our namespace: inside, outside, how many, and so on.
func users() []string {
	text, err := os.ReadFile("/proc/self/uid_map")
	if err != nil {
		return nil
	}
	return strings.Fields(string(text))
}

// inUserNamespace: the machine's own has all users.
func inUserNamespace() bool {
	u := users()
	return len(u) != 3 || u[2] != "4294967295"
}

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
		return errors.New("pods are network namespaces, which take root: run this as root, or in a user namespace with many users " +
			"(unshare --user --map-root-user --map-auto --net --mount)")
	}
	users, err := os.ReadFile("/proc/self/uid_map")
	if err != nil {
		return fmt.Errorf("pods need processes of several users: %w", err)
	}
	if fields := strings.Fields(string(users)); len(fields) == 3 && fields[2] == "1" {
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

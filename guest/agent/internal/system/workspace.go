package system

import (
	"os"
	"slices"
	"strings"
	"sync"

	"kiln/guest-agent/internal/mux"
)

const workspace = "/workspace"

var workspaceMounting sync.Mutex

// mountWorkspace calls do to mount the workspace, unless it is mounted already: a host that configures a guest again
// must find it as it is.
func mountWorkspace(do func() error) error {
	workspaceMounting.Lock()
	defer workspaceMounting.Unlock()
	mounted, err := isMounted(workspace)
	if err == nil && !mounted {
		err = do()
	}
	if err != nil {
		return mux.Fail("INTERNAL", "workspace: "+err.Error())
	}
	return nil
}

// isMounted returns whether something is mounted at exactly this path.
func isMounted(target string) (bool, error) {
	table, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return false, err
	}
	return hasMount(string(table), target), nil
}

// mountPoint is the index of the mount point among the fields of a line of mountinfo(5).
const mountPoint = 4

func hasMount(table, target string) bool {
	return slices.ContainsFunc(strings.Split(table, "\n"), func(line string) bool {
		fields := strings.Fields(line)
		return len(fields) > mountPoint && fields[mountPoint] == target
	})
}

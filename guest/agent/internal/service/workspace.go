package service

import (
	"kiln/guest-agent/internal/mux"
	"kiln/guest-agent/internal/wire"
	"kiln/guest-agent/internal/workspace"
)

// saveFields are the fields of a request to save or restore a workspace.
type saveFields struct {
	SaveID     string `json:"saveId"`
	BaseSaveID string `json:"baseSaveId"`
	SaltHex    string `json:"saltHex"`
}

func (r request) workspace() workspace.Request {
	return workspace.Request{Path: r.Path, SaveID: r.SaveID, BaseSaveID: r.BaseSaveID, SaltHex: r.SaltHex}
}

// saving is the stream of a request to save or restore.
type saving struct{ *mux.Stream }

// Opened tells the host that the request is accepted.
func (s saving) Opened(value any) error { return s.SendJSON(wire.Opened, value) }

func (a *Agent) save(st *mux.Stream, request request) error {
	return a.keeper.Save(request.workspace(), saving{st})
}

// restore refuses while a process runs: it would see files vanish and come back.
func (a *Agent) restore(st *mux.Stream, request request) error {
	if err := a.registry.CheckIdle(); err != nil {
		return err
	}
	return a.keeper.Restore(request.workspace(), saving{st})
}

/** Services that run in the VMs of a host. Types only; see the rules in `ports/README.md`. */
import type { Stage } from '../domain/workload/stages.ts';
import type { ExecExit, ExecRequest } from './guest-agent.ts';

/** The service processes in this host's VMs: starts them, copies their output to the log, waits for their end. */
export interface GuestServices {
  /** Starts the service, or finds it; its output goes to the log from now on, also after a restart of the host worker. */
  start(request: { vmId: string; workloadId: string; epoch: number; exec: ExecRequest }): Promise<{ pid: number }>;
  /** Stage of the service's log lines from now on. */
  setStage(vmId: string, stage: Stage): Promise<void>;
  /** @returns how the service ended, with the last lines it printed. @throws AGENT_LOST, VMM_EXITED, NOT_FOUND */
  waitExit(vmId: string, signal?: AbortSignal): Promise<{ exit: ExecExit; tail: string }>;
  /** SIGTERM to its group, after `graceMs` SIGKILL. For a service that has already ended, returns that end. */
  stop(vmId: string, options: { graceMs: number }): Promise<ExecExit>;
}

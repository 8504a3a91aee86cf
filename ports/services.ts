/** Services that run in the VMs of a host. Types only; the rules of `ports/README.md` hold. */
import type { Stage } from '../domain/workload/stages.ts';
import type { ExecExit, ExecRequest } from './guest-agent.ts';

/** The service processes in this host's VMs: started, their output pumped to the log, their end awaited. */
export interface GuestServices {
  /** Starts the service, or finds it; its output goes to the log from now on, also after a restart of the host worker. */
  start(request: { vmId: string; workloadId: string; epoch: number; exec: ExecRequest }): Promise<{ pid: number }>;
  /** Stage that the log lines of the service carry from now on. */
  setStage(vmId: string, stage: Stage): Promise<void>;
  /** @returns how the service ended, with the last lines it printed. @throws AGENT_LOST, VMM_EXITED, NOT_FOUND */
  waitExit(vmId: string, signal?: AbortSignal): Promise<{ exit: ExecExit; tail: string }>;
  /** SIGTERM to its group, after `graceMs` SIGKILL. One that has ended is told as it ended. */
  stop(vmId: string, options: { graceMs: number }): Promise<ExecExit>;
}

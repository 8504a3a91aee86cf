/** Signatures of the activities of sessions. */
import type { SessionName } from '../../domain/names.ts';
import type { CarriedRunIds } from '../../domain/session/known-run-ids.ts';
import type { EndedRun, RunBody } from '../../domain/session/run-book.ts';
import type { SaveMark } from '../../domain/session/save-book.ts';
import type { SessionEnd, SessionSettings } from '../../domain/session/session-record.ts';
import type { RunExit } from '../../ports/runs.ts';
import type { RestoredWorkspace, SpooledSave, StoredSave } from '../../ports/saves.ts';
import type { VmActivities, VmCall } from '../vm/vm-types.ts';

/** What is on record of a session when its workflow starts. */
export type OpenedSession =
  | {
      readonly state: 'open';
      readonly settings: SessionSettings;
      /** Ids of runs that the thread has on record, of all its incarnations. */
      readonly knownRunIds: CarriedRunIds;
      /** Number of the last turn on record; 0 where there is none. */
      readonly turn: number;
      /** What the head names, and the placement that has it. */
      readonly head?: { readonly epoch: number; readonly mark?: SaveMark };
    }
  /** This incarnation is over, or never was: the workflow ends, and says so to whatever it has accepted. */
  | { readonly state: 'ended'; readonly end?: SessionEnd };

/** Activities that any control worker runs. */
export interface SessionBookActivities {
  /** Reads the record, before the workflow does anything else. */
  openSession(input: { name: SessionName }): Promise<OpenedSession>;
  /** How a run of that id ended, long ago; null where the thread never had it. */
  findRun(input: { name: SessionName; runId: string }): Promise<EndedRun | null>;
  /** Writes ends of runs, each once. */
  recordRuns(input: { name: SessionName; runs: readonly EndedRun[] }): Promise<void>;
  /** Notes the end of the session, once. */
  endSession(input: { name: SessionName; end: SessionEnd }): Promise<void>;
}

/** Activities of the host that has the session's VM. */
export interface SessionHostActivities extends VmActivities {
  /** Runs a command in the VM, once, however often this is called. @returns its end, once its output is safe */
  runTurn(
    input: VmCall & {
      vmId: string;
      turn: number;
      name: SessionName;
      runId: string;
      body: RunBody;
      timeoutMs: number;
      /** Without a sign of life for so long, the run is killed, ms. */
      silentMs: number;
      /** Names and ports that the run may reach. */
      egress: readonly string[];
    },
  ): Promise<RunExit>;
  /** Kills a run, or sees to it that it never starts. */
  cancelRun(input: VmCall & { vmId: string; turn: number }): Promise<void>;
  /** In force at once, also for a run that goes on. */
  setEgress(input: VmCall & { vmId: string; egress: readonly string[] }): Promise<void>;
  /** Stops the guest's CPUs. A paused VM stays as it is. */
  pauseVm(input: VmCall & { vmId: string }): Promise<void>;
  /** Lets the guest go on, with the right time. A running VM stays as it is. */
  /** `waitMs`: how long it may wait at its host for room. @throws NO_CAPACITY */
  resumeVm(input: VmCall & { vmId: string; deadlineMs: number; waitMs: number }): Promise<void>;
  /** Takes the workspace into the spool of the host, once for each mark. */
  saveWorkspace(input: VmCall & { vmId: string; name: SessionName; mark: SaveMark }): Promise<SpooledSave>;
  /** Brings all that is spooled of this placement into the store; null where nothing ever was. */
  uploadSaves(input: VmCall & { name: SessionName }): Promise<StoredSave | null>;
  /** Fills the workspace of a new VM with the newest save; null where there is none. */
  restoreWorkspace(input: VmCall & { vmId: string; name: SessionName }): Promise<RestoredWorkspace | null>;
}

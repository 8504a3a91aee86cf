/** Documents of the object store that activities read and write. Types only; the rules of `ports/README.md` hold. */
import type { HostEntry } from '../domain/capacity/host-entry.ts';
import type { WaitingRequest } from '../domain/capacity/waiting-line.ts';
import type { WorkloadRequest, WorkloadState } from '../domain/workload/workload.ts';

export interface WorkloadDocuments {
  /** @throws SPEC_INVALID where the document is missing or its hash differs. */
  readSpec(workloadId: string, specHash: string): Promise<WorkloadRequest>;
  /** Writes the result once; a second write of the same workload is the same fact. */
  writeResult(state: WorkloadState): Promise<void>;
}

export interface HostDirectory {
  list(): Promise<HostEntry[]>;
  /** @returns undefined where the host never wrote an entry. */
  read(hostId: string): Promise<HostEntry | undefined>;
}

/** Workloads that wait for capacity, each seen again and again while it does. */
export interface WaitingLine {
  /** @returns everybody, with the time when each was last seen, ms since 1970. */
  list(): Promise<readonly { readonly request: WaitingRequest; readonly seenMs: number }[]>;
  /** Stands in the line, or is seen there again: its place is told by priority and age, not by when it came. */
  join(request: WaitingRequest): Promise<void>;
  /** Not in the line: nothing to do. */
  leave(workloadId: string): Promise<void>;
}

/** Documents of the object store that activities read and write. Types only; see the rules in `ports/README.md`. */
import type { HostEntry } from '../domain/capacity/host-entry.ts';
import type { WaitingRequest } from '../domain/capacity/waiting-line.ts';
import type { WorkloadRequest, WorkloadState } from '../domain/workload/workload.ts';

export interface WorkloadDocuments {
  /** @throws SPEC_INVALID where the document is missing or its hash differs. */
  readSpec(workloadId: string, specHash: string): Promise<WorkloadRequest>;
  /** Writes the result once; a second write changes nothing. */
  writeResult(state: WorkloadState): Promise<void>;
}

export interface HostDirectory {
  list(): Promise<HostEntry[]>;
  /** @returns undefined where the host never wrote an entry. */
  read(hostId: string): Promise<HostEntry | undefined>;
}

/** Workloads that wait for capacity; each renews its entry while it waits. */
export interface WaitingLine {
  /** @returns all requests, with the time when each was last seen, ms since 1970. */
  list(): Promise<readonly { readonly request: WaitingRequest; readonly seenMs: number }[]>;
  /** Adds or renews the entry: priority and age decide its place, not the time of this call. */
  join(request: WaitingRequest): Promise<void>;
  /** Not in the line: does nothing. */
  leave(workloadId: string): Promise<void>;
}

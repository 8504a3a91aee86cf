/** What the parts of the session client share. */
import type { Client } from '@temporalio/client';
import type { KeyedLock } from '../../../concurrency/keyed-lock.ts';
import type { ThreadName } from '../../../domain/names.ts';
import type { SessionPolicyOverrides } from '../../../domain/policies.ts';
import type { SessionRecord } from '../../../domain/session/session-record.ts';
import type { LocatedRun } from '../../../domain/session/session-state.ts';
import type { SessionBooks } from '../../../ports/session-books.ts';
import type { ClientTimings } from '../client-timings.ts';

export interface SessionClientContext {
  readonly client: Client;
  readonly books: SessionBooks;
  readonly timings: ClientTimings & {
    /** Deadline of sending a run; after it nothing is known, and the caller repeats it with the same id. */
    readonly sendMs: number;
  };
  readonly policies?: SessionPolicyOverrides;
  readonly privateNames?: readonly string[];
  readonly taskQueue: string;
  /** Records of threads as they were read lately. A closed workflow shows that one is too old. */
  readonly lately: {
    get(name: ThreadName): SessionRecord | undefined;
    set(record: SessionRecord): void;
    forget(name: ThreadName): void;
  };
  /** Where runs were that this process has sent within the last seconds, by thread and id. */
  readonly sent: {
    get(name: ThreadName, runId: string): LocatedRun | undefined;
    set(found: LocatedRun): void;
  };
  /** Few updates of a thread are under way at a time: the server refuses the eleventh. */
  readonly lanes: KeyedLock;
}

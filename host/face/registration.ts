/** The host's entry in the registry: written again and again, so that its age shows whether the host lives. */

import { loadavg } from 'node:os';
import type { HostEntry } from '../../domain/capacity/host-entry.ts';
import { messageOf } from '../../domain/failures.ts';
import type { HostLogger } from '../host-logger.ts';

export interface RegistrationOptions {
  /** Pause between two writings, ms. */
  readonly everyMs: number;
  /** Facts that change; read before each writing. */
  readonly facts: () => Promise<Omit<HostEntry, 'at' | 'load'>>;
  /** Puts the entry where others find it. */
  readonly publish: (entry: HostEntry) => Promise<void>;
  readonly logger: HostLogger;
}

export interface Registration {
  /** Writes the first entry (a failure is logged and tried again later), then goes on in the background. */
  start(): Promise<void>;
  /** Ends the background writing. The entry stays: it ages by itself, and the VMs live on. */
  stop(): Promise<void>;
}

export function createRegistration(options: RegistrationOptions): Registration {
  let timer: NodeJS.Timeout | undefined;
  let writing: Promise<void> = Promise.resolve();
  let stopped = false;

  const writeNow = async (): Promise<void> => {
    try {
      const facts = await options.facts();
      await options.publish({ ...facts, at: new Date().toISOString(), load: loadavg()[0] ?? 0 });
    } catch (error) {
      const reason = messageOf(error);
      options.logger.warn({ reason }, 'the host could not register; it tries again');
    }
  };
  const write = (): Promise<void> => {
    writing = writing.then(writeNow);
    return writing;
  };
  const schedule = (): void => {
    if (stopped) return;
    timer = setTimeout(() => void write().then(schedule), options.everyMs);
  };
  return {
    async start() {
      await write();
      schedule();
    },
    async stop() {
      stopped = true;
      clearTimeout(timer);
      await writing;
    },
  };
}

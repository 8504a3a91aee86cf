/** What a host measures of the saves of workspaces. */
import { Counter, Histogram, type Registry } from 'prom-client';
import { isKilnError } from '../../domain/failures.ts';
import type { SessionSaves } from '../../ports/saves.ts';

const SECONDS = [0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300];

type Step = Exclude<keyof SessionSaves, 'claim'>;

/** @returns saves that are measured: what is wrapped does the work */
export function measuredSaves(registers: Registry[]): (saves: SessionSaves) => SessionSaves {
  const seconds = new Histogram({
    name: 'kiln_host_save_seconds',
    help: 'Time of the steps of saves: snapshot (guest to host), upload (host to store), restore (store or host to guest).',
    labelNames: ['step'],
    buckets: SECONDS,
    registers,
  });
  const bytes = new Counter({
    name: 'kiln_host_save_bytes_total',
    help: 'Bytes of saves, compressed: added by snapshots, sent to the store by uploads, fetched from it by restores.',
    labelNames: ['step'],
    registers,
  });
  const failures = new Counter({
    name: 'kiln_host_save_failures_total',
    help: 'Steps of saves that failed, with the code of the failure.',
    labelNames: ['step', 'code'],
    registers,
  });
  const measured = async <T>(step: Step, work: () => Promise<T>, bytesOf: (done: T) => number): Promise<T> => {
    const end = seconds.startTimer({ step });
    try {
      const done = await work();
      end();
      bytes.inc({ step }, bytesOf(done));
      return done;
    } catch (error) {
      failures.inc({ step, code: isKilnError(error) ? error.code : 'INTERNAL' });
      throw error;
    }
  };
  return (saves) => ({
    claim: (of) => saves.claim(of),
    snapshot: (of, mark, signal) =>
      measured(
        'snapshot',
        () => saves.snapshot(of, mark, signal),
        ({ newBytes }) => newBytes,
      ),
    upload: (of, signal) =>
      measured(
        'upload',
        () => saves.upload(of, signal),
        (done) => done?.sentBytes ?? 0,
      ),
    restore: (of, signal) =>
      measured(
        'restore',
        () => saves.restore(of, signal),
        (done) => done?.fetchedBytes ?? 0,
      ),
  });
}

/** Random schedules: the requests to a Kiln, the faults, and their times. Pure: a seed determines a schedule. */
import { SeededRandom } from './random.ts';

export const SERVICES = [
  'plain',
  'plain',
  'waits-in-build',
  'exits',
  'build-fails',
  'never-listens',
  'no-manifest',
] as const;
export const FAULT_PORTS = [
  'hosts.list',
  'ledger.reserve',
  'ledger.release',
  'sources.inspect',
  'sources.pack',
  'vms.provision',
  'vms.boot',
  'vms.release',
  'services.start',
  'services.setStage',
  'services.stop',
  'documents.writeResult',
  'documents.readSpec',
  'builds.save',
] as const;

export type Service = (typeof SERVICES)[number];
export type FaultPort = (typeof FAULT_PORTS)[number];

interface At {
  /** From the begin of the schedule, ms. */
  readonly atMs: number;
}

export type ChaosEvent = At &
  (
    | { readonly kind: 'create'; readonly id: string; readonly service: Service }
    | { readonly kind: 'stop'; readonly id: string }
    | { readonly kind: 'kill-vm'; readonly id: string }
    | { readonly kind: 'cancel'; readonly id: string }
    | { readonly kind: 'fail'; readonly port: FaultPort; readonly moment: 'before' | 'after' }
    | { readonly kind: 'kill-worker'; readonly role: 'host' | 'control' }
    /** The server is paused and then continues as if nothing had happened. */
    | { readonly kind: 'stall'; readonly server: 'temporal' | 'versitygw'; readonly forMs: number }
  );

export interface ScheduleOptions {
  /** Time over which events are spread, ms. */
  readonly spanMs: number;
}

/** @returns the events of a seed in the order of their time; each workload is created before anything is done to it */
export function scheduleOf(seed: number, { spanMs }: ScheduleOptions): ChaosEvent[] {
  const random = new SeededRandom(seed);
  const events: ChaosEvent[] = [];
  const workloads = random.between(2, 4);
  for (let n = 0; n < workloads; n++) {
    const id = `s${seed}-${n}`;
    const atMs = random.between(0, spanMs / 2);
    events.push({ kind: 'create', id, service: random.pick(SERVICES), atMs });
    const harm = random.next();
    const later = random.between(atMs, spanMs);
    if (harm < 0.4) events.push({ kind: 'stop', id, atMs: later });
    else if (harm < 0.55) events.push({ kind: 'kill-vm', id, atMs: later });
    else if (harm < 0.65) events.push({ kind: 'cancel', id, atMs: later });
  }
  const harms = random.between(0, 3);
  for (let n = 0; n < harms; n++) events.push(harmToAll(random, random.between(0, spanMs)));
  return inOrder(events);
}

/** @returns the events by their time; of one moment, in the order given */
export function inOrder(events: readonly ChaosEvent[]): ChaosEvent[] {
  return [...events].sort((a, b) => a.atMs - b.atMs);
}

function harmToAll(random: SeededRandom, atMs: number): ChaosEvent {
  const kind = random.next();
  if (kind < 0.6) {
    return { kind: 'fail', port: random.pick(FAULT_PORTS), moment: random.pick(['before', 'after']), atMs };
  }
  if (kind < 0.8) return { kind: 'kill-worker', role: random.pick(['host', 'control']), atMs };
  const forMs = random.between(100, 1_200);
  return { kind: 'stall', server: random.pick(['temporal', 'versitygw']), forMs, atMs };
}

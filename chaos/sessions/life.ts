/** Random lives of sessions: what is asked of one, and what happens to the Kiln meanwhile. Pure: a seed gives a life. */
import type { SeededRandom } from '../random.ts';

/** What can happen to the whole Kiln. */
export type Disturbance =
  | { readonly kind: 'kill-worker'; readonly role: 'host' | 'control' }
  /** The server stands still, then goes on. */
  | { readonly kind: 'stall'; readonly server: 'temporal' | 'versitygw'; readonly forMs: number }
  /** The server is killed and started again, on its data. */
  | { readonly kind: 'restart'; readonly server: 'temporal' | 'versitygw'; readonly awayMs: number }
  /** The machine of the host is gone, with every VM and everything that was not in the store. */
  | { readonly kind: 'lose-machine' };

export type Step =
  | {
      readonly kind: 'run';
      /** Sent at once, one behind the other. */
      readonly runs: number;
      /** In each. */
      readonly changes: number;
      /** Happens this long after they were sent. */
      readonly during?: { readonly afterMs: number; readonly what: Disturbance | { readonly kind: 'kill-vm' } };
      /** After them. */
      readonly wait?: 'until-saved' | 'until-warm';
    }
  /** A run is cancelled once it has changed what it was to change. */
  | { readonly kind: 'cancel'; readonly changes: number }
  | { readonly kind: 'write-file'; readonly bytes: number; readonly untilSaved: boolean }
  | { readonly kind: 'delete-file' }
  | { readonly kind: 'sleep' }
  /** The files of a turn that is kept, as a tar, without a VM. */
  | { readonly kind: 'read-turn' }
  /** While nothing runs. */
  | { readonly kind: 'kill-vm' }
  | { readonly kind: 'disturb'; readonly what: Disturbance };

const FEWEST_STEPS = 8;
const MOST_STEPS = 14;

/** @returns the steps of a life, the first a run */
export function lifeOf(random: SeededRandom): Step[] {
  const steps: Step[] = [run(random, undefined)];
  const count = random.between(FEWEST_STEPS, MOST_STEPS);
  while (steps.length < count) steps.push(nextStep(random));
  return steps;
}

function nextStep(random: SeededRandom): Step {
  const kind = random.next();
  if (kind < 0.4) return run(random, during(random));
  if (kind < 0.46) return { kind: 'cancel', changes: random.between(1, 4) };
  if (kind < 0.56) {
    return { kind: 'write-file', bytes: random.between(0, 50_000), untilSaved: random.next() < 0.4 };
  }
  if (kind < 0.6) return { kind: 'delete-file' };
  if (kind < 0.74) return { kind: 'sleep' };
  if (kind < 0.84) return { kind: 'read-turn' };
  if (kind < 0.9) return { kind: 'kill-vm' };
  return { kind: 'disturb', what: disturbance(random) };
}

function run(random: SeededRandom, what: NonNullable<Extract<Step, { kind: 'run' }>['during']> | undefined): Step {
  return {
    kind: 'run',
    runs: random.next() < 0.75 ? 1 : random.between(2, 3),
    changes: random.between(1, 8),
    ...(what === undefined ? {} : { during: what }),
    ...(random.next() < 0.5 ? { wait: random.pick(['until-saved', 'until-warm']) } : {}),
  };
}

function during(random: SeededRandom): NonNullable<Extract<Step, { kind: 'run' }>['during']> | undefined {
  if (random.next() < 0.7) return undefined;
  const what = random.next() < 0.3 ? ({ kind: 'kill-vm' } as const) : disturbance(random);
  return { afterMs: random.between(0, 900), what };
}

function disturbance(random: SeededRandom): Disturbance {
  const kind = random.next();
  if (kind < 0.4) return { kind: 'kill-worker', role: random.pick(['host', 'host', 'control']) };
  const server = random.pick(['temporal', 'versitygw'] as const);
  if (kind < 0.6) return { kind: 'stall', server, forMs: random.between(200, 2_500) };
  if (kind < 0.8) return { kind: 'restart', server, awayMs: random.between(0, 1_500) };
  return { kind: 'lose-machine' };
}

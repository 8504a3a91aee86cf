import { beforeEach, describe, expect, it } from 'vitest';
import { KilnError } from '../../../../domain/failures.ts';
import type { LeaseWord } from '../../../../domain/session/lease.ts';
import type { VmOwner, VmStatus } from '../../../../domain/vm.ts';
import { createLeaseWord } from '../../../../host/leases/lease-word.ts';
import {
  createSessionLeases,
  type SessionLeases,
  type SessionLeasesOptions,
} from '../../../../host/leases/session-leases.ts';
import { silentLogger } from '../../../support/workers/silent-logger.ts';

const OWNER: VmOwner = {
  workflowId: 'session/default/t/1',
  firstExecutionId: 'first',
  namespaceId: 'n',
  epoch: 2,
  boot: 1,
  role: 'session',
};
const LEASE_MS = 20_000;
const LOOK_MS = 5_000;

/** A host with one VM: what it is asked to do, and a clock that a test sets. */
function world() {
  const state = {
    now: 1_000_000,
    vm: 'running' as VmStatus['state'],
    word: 'unknown' as LeaseWord,
    role: 'session' as VmOwner['role'],
    marks: new Set<string>(),
    isReleased: false,
    firstExecutionId: 'first',
    asked: 0,
    did: [] as string[],
    pauseFails: undefined as KilnError | undefined,
    /** Whether the guest runs all the same. */
    resumeFails: undefined as KilnError | undefined,
  };
  const leases = (more: Partial<SessionLeasesOptions> = {}) =>
    createSessionLeases({
      leaseMs: LEASE_MS,
      lookMs: LOOK_MS,
      ownerOf: async () =>
        state.isReleased ? undefined : { ...OWNER, role: state.role, firstExecutionId: state.firstExecutionId },
      status: async (): Promise<VmStatus> =>
        state.vm === 'running' ? { state: 'running', pid: 1 } : { state: 'paused', pid: 1 },
      ask: async () => {
        state.asked += 1;
        return state.word;
      },
      async pause() {
        if (state.pauseFails !== undefined) throw state.pauseFails;
        state.did.push('pause');
        state.vm = 'paused';
      },
      async resume() {
        state.did.push('resume');
        state.vm = 'running';
        if (state.resumeFails !== undefined) throw state.resumeFails;
      },
      marks: {
        has: async (vmId) => state.marks.has(vmId),
        set: async (vmId) => void state.marks.add(vmId),
        clear: async (vmId) => void state.marks.delete(vmId),
      },
      clock: () => state.now,
      logger: silentLogger,
      ...more,
    });
  return { state, leases };
}

let w: ReturnType<typeof world>;
let leases: SessionLeases;
beforeEach(async () => {
  w = world();
  leases = w.leases();
  await leases.called('vm');
});

const later = async (ms: number) => {
  w.state.now += ms;
  await leases.look();
};

describe('the VM of a session', () => {
  it('runs on while either of the two confirms that it is its own', async () => {
    w.state.word = 'ours';
    for (let n = 0; n < 20; n++) await later(5_000);
    expect([w.state.did, leases.stands('vm')]).toEqual([[], true]);
  });

  it('is paused once nobody has confirmed it for its time, and goes on with the next word', async () => {
    await later(LEASE_MS);
    expect([w.state.did, leases.stands('vm'), leases.held]).toEqual([[], true, 0]);
    await later(1);
    expect([w.state.did, leases.stands('vm'), leases.held]).toEqual([['pause'], false, 1]);
    await later(60_000);
    w.state.word = 'ours';
    await later(5_000);
    expect([w.state.did, leases.stands('vm'), leases.held]).toEqual([['pause', 'resume'], true, 0]);
    expect(w.state.marks.size).toBe(0);
  });

  it('is paused at once where another has its session; no call lets it go on, but a newer word', async () => {
    w.state.word = 'anothers';
    await later(1);
    await leases.called('vm');
    w.state.word = 'unknown';
    await later(1);
    expect([w.state.did, leases.stands('vm')]).toEqual([['pause'], false]);
    w.state.word = 'ours';
    await later(1);
    expect([w.state.did, leases.stands('vm')]).toEqual([['pause', 'resume'], true]);
  });

  it('does not act after a sleep of the machine before somebody has confirmed it', async () => {
    w.state.word = 'ours';
    w.state.now += 3_600_000;
    expect(leases.stands('vm')).toBe(false);
    await leases.look();
    expect([w.state.did, leases.stands('vm')]).toEqual([['pause', 'resume'], true]);
  });

  it('goes on with a call of its workflow, which proves as much', async () => {
    await later(LEASE_MS + 1);
    await leases.called('vm');
    expect([w.state.did, leases.stands('vm')]).toEqual([['pause', 'resume'], true]);
    await later(LEASE_MS);
    expect(leases.stands('vm')).toBe(true);
  });

  it('needs no lease while it rests, and is not woken by one', async () => {
    await leases.atRest('vm', async () => {
      w.state.vm = 'paused';
    });
    w.state.word = 'ours';
    await later(LEASE_MS * 10);
    expect([w.state.did, leases.stands('vm')]).toEqual([[], true]);
    await leases.awake('vm', async () => {
      w.state.vm = 'running';
    });
    w.state.word = 'unknown';
    await later(LEASE_MS + 1);
    expect(w.state.did).toEqual(['pause']);
    // The session wants it to rest: the next word must not wake it.
    await leases.atRest('vm', async () => undefined);
    w.state.word = 'ours';
    await later(1);
    expect([w.state.did, w.state.marks.size]).toEqual([['pause'], 0]);
  });

  it('that a rest could not stop keeps its lease', async () => {
    const failed = leases.atRest('vm', () => Promise.reject(new KilnError('INTERNAL', 'no')));
    await expect(failed).rejects.toMatchObject({ code: 'INTERNAL' });
    await later(LEASE_MS + 1);
    expect(w.state.did).toEqual(['pause']);
  });

  it('is found paused by the next process, which lets it go on', async () => {
    await later(LEASE_MS + 1);
    leases = w.leases();
    await leases.found('vm');
    expect([leases.held, leases.stands('vm')]).toEqual([1, false]);
    w.state.word = 'ours';
    await later(1);
    expect([w.state.did, leases.held]).toEqual([['pause', 'resume'], 0]);
  });

  it('at rest is not taken for one without a lease by the next process', async () => {
    w.state.vm = 'paused';
    leases = w.leases();
    await leases.found('vm');
    w.state.word = 'ours';
    await later(LEASE_MS + 1);
    expect(w.state.did).toEqual([]);
  });

  it('that is gone is forgotten', async () => {
    w.state.pauseFails = new KilnError('VMM_EXITED', 'gone');
    await later(LEASE_MS + 1);
    w.state.pauseFails = undefined;
    await later(LEASE_MS + 1);
    expect([w.state.did, leases.held]).toEqual([[], 0]);
  });

  it('is found running by the next process, and has until its first look, whatever note there is', async () => {
    w.state.marks.add('vm');
    leases = w.leases();
    await leases.found('vm');
    expect([leases.stands('vm'), leases.held]).toEqual([true, 0]);
    await later(LOOK_MS);
    expect(leases.stands('vm')).toBe(true);
    await later(1);
    expect([w.state.did, leases.held]).toEqual([['pause'], 1]);
  });

  it('whose pause failed and that then came to rest is no more than at rest, also for the next process', async () => {
    w.state.pauseFails = new KilnError('INTERNAL', 'no answer');
    await later(LEASE_MS + 1);
    expect(w.state.marks.size).toBe(1);
    await leases.atRest('vm', async () => {
      w.state.vm = 'paused';
    });
    expect(w.state.marks.size).toBe(0);
    leases = w.leases();
    await leases.found('vm');
    w.state.word = 'ours';
    await later(1);
    expect(w.state.did).toEqual([]);
  });

  it('that runs although its resume has failed is paused again past its lease', async () => {
    await later(LEASE_MS + 1);
    w.state.resumeFails = new KilnError('AGENT_TIMEOUT', 'no answer');
    w.state.word = 'ours';
    await later(1);
    w.state.word = 'unknown';
    await later(LEASE_MS + 1);
    expect([w.state.did, leases.held]).toEqual([['pause', 'resume', 'pause'], 1]);
  });

  it('that runs although the wake of its session has failed has its lease, and no longer; one that rests needs none', async () => {
    const fails = () => Promise.reject(new KilnError('AGENT_TIMEOUT', 'no answer'));
    await expect(leases.awake('vm', fails)).rejects.toMatchObject({ code: 'AGENT_TIMEOUT' });
    await later(LEASE_MS + 1);
    expect([w.state.did, leases.held]).toEqual([['pause'], 1]);
    await leases.atRest('vm', async () => undefined);
    await expect(leases.awake('vm', fails)).rejects.toMatchObject({ code: 'AGENT_TIMEOUT' });
    w.state.word = 'ours';
    await later(LEASE_MS + 1);
    expect([w.state.did, leases.stands('vm')]).toEqual([['pause'], true]);
  });

  it('whose wake had failed, and which comes to rest after another one, is no more than at rest for the next process', async () => {
    const fails = () => Promise.reject(new KilnError('AGENT_TIMEOUT', 'no answer'));
    await expect(leases.awake('vm', fails)).rejects.toMatchObject({ code: 'AGENT_TIMEOUT' });
    await later(LEASE_MS + 1);
    expect(w.state.marks.size).toBe(1);
    await leases.awake('vm', async () => {
      w.state.vm = 'running';
    });
    await leases.atRest('vm', async () => {
      w.state.vm = 'paused';
    });
    expect(w.state.marks.size).toBe(0);
    leases = w.leases();
    await leases.found('vm');
    w.state.word = 'ours';
    await later(1);
    expect(w.state.did).toEqual(['pause']);
  });

  it('that was released is asked about no more, and leaves no mark', async () => {
    w.state.isReleased = true;
    await later(LEASE_MS + 1);
    await later(1);
    expect([w.state.asked, w.state.did, w.state.marks.size]).toEqual([0, [], 0]);
  });

  it('that has the name of an earlier one has a lease of its own', async () => {
    w.state.word = 'anothers';
    await later(1);
    expect(leases.stands('vm')).toBe(false);
    Object.assign(w.state, { firstExecutionId: 'second', vm: 'running', word: 'unknown' });
    w.state.marks.clear();
    await leases.called('vm');
    expect(leases.stands('vm')).toBe(true);
    await later(LEASE_MS);
    expect([w.state.did, leases.stands('vm')]).toEqual([['pause'], true]);
  });

  it('that could not be paused is tried again, and may not act meanwhile', async () => {
    w.state.pauseFails = new KilnError('INTERNAL', 'no answer');
    await later(LEASE_MS + 1);
    expect(leases.stands('vm')).toBe(false);
    w.state.pauseFails = undefined;
    await later(1);
    expect([w.state.did, leases.held]).toEqual([['pause'], 1]);
  });
});

it('a question that takes longer than the lease finds the VM paused', async () => {
  const { state, leases: all } = world();
  const answer = Promise.withResolvers<LeaseWord>();
  const one = all({ leaseMs: 20, ask: () => answer.promise });
  await one.called('vm');
  const looking = one.look();
  state.now += 21;
  while (one.held === 0) await new Promise((done) => setTimeout(done, 1));
  expect(state.did).toEqual(['pause']);
  answer.resolve('ours');
  await looking;
  expect([state.did, one.held]).toEqual([['pause', 'resume'], 0]);
});

it('one VM that does not answer holds up none of the others', async () => {
  const { state, leases: all } = world();
  const two = all({ pause: (vmId) => (vmId === 'hangs' ? new Promise(() => undefined) : paused(state)) });
  await Promise.all(['hangs', 'vm'].map((vmId) => two.called(vmId)));
  state.now += LEASE_MS + 1;
  void two.look();
  while (two.held === 0) await new Promise((done) => setTimeout(done, 1));
  state.word = 'ours';
  void two.look();
  while (two.held === 1) await new Promise((done) => setTimeout(done, 1));
  expect(two.stands('vm')).toBe(true);
});

const paused = async (state: ReturnType<typeof world>['state']) => {
  state.vm = 'paused';
};

it('the VM of a workload needs none', async () => {
  w.state.role = 'service';
  leases = w.leases();
  await leases.found('vm');
  await later(LEASE_MS * 2);
  expect([w.state.did, leases.stands('vm')]).toEqual([[], true]);
});

describe('the word on whose VM it is', () => {
  const never = new Promise<never>(() => undefined);
  const away = async () => {
    throw new KilnError('STORE_UNAVAILABLE', 'away');
  };
  it.each([
    ['Temporal knows it', async () => 'open' as const, away, 'ours'],
    ['Temporal knows another', async () => 'over' as const, async () => 'ours' as const, 'anothers'],
    ['Temporal is away, the head is ours', async () => 'unreadable' as const, async () => 'ours' as const, 'ours'],
    ['Temporal hangs, the head is ours', () => never, async () => 'ours' as const, 'ours'],
    ["Temporal fails, the head is another's", away, async () => 'anothers' as const, 'anothers'],
    ['both are away', away, away, 'unknown'],
    ['both hang', () => never, () => never, 'unknown'],
  ])('%s', async (_case, lookup, claim, expected) => {
    expect(await createLeaseWord({ lookup, saves: { claim }, askMs: 20 })(OWNER)).toBe(expected);
  });

  it('is not asked of the store for what is no session', async () => {
    const lookup = async () => 'unreadable' as const;
    const saves = { claim: async () => 'ours' as const };
    expect(await createLeaseWord({ lookup, saves, askMs: 20 })({ ...OWNER, workflowId: 'other' })).toBe('unknown');
  });
});

import { describe, expect, it } from 'vitest';
import { KilnError } from '../../../../domain/failures.ts';
import { createVmChannels, type VmChannels } from '../../../../host/vms/channels.ts';
import type { AgentChannel } from '../../../../ports/guest-agent.ts';
import type { StartedVm } from '../../../../ports/vm-driver.ts';
import { silentLogger } from '../../../support/workers/silent-logger.ts';

interface FakeChannel extends AgentChannel {
  lose(): void;
  readonly detached: number;
}

function channel(): FakeChannel {
  const closed = Promise.withResolvers<Error>();
  let detached = 0;
  const none = (): never => {
    throw new Error('not used here');
  };
  return {
    hello: { agentVersion: '1', protocol: 1, bootId: 'b', features: [] },
    features: new Set(),
    closed: closed.promise,
    lose: () => closed.resolve(new Error('lost')),
    get detached() {
      return detached;
    },
    detach: async () => {
      detached++;
      closed.resolve(new Error('detached'));
    },
    ping: none,
    configure: none,
    exec: none,
    attachExec: none,
    listExecs: none,
    putTar: none,
    getTar: none,
    saveWorkspace: none,
    restoreWorkspace: none,
    connectTcp: none,
    serveEgress: none,
    usage: none,
    setClock: none,
    quiesce: none,
    shutdown: none,
  };
}

const startedWith = (agent: AgentChannel): StartedVm => ({ vmId: 'v', pid: 1, agent });

interface Rig {
  readonly channels: VmChannels;
  readonly attempts: string[];
  readonly announced: AgentChannel[];
}

function rig(attach: (vmId: string, attempt: number, signal?: AbortSignal) => Promise<AgentChannel>): Rig {
  const attempts: string[] = [];
  const announced: AgentChannel[] = [];
  const channels = createVmChannels({
    driver: {
      async attach(vmId, { signal }): Promise<StartedVm> {
        attempts.push(vmId);
        return { vmId, pid: 1, agent: await attach(vmId, attempts.length, signal) };
      },
    },
    reattach: { attemptMs: 1000, backoffMs: 1, maxBackoffMs: 2, deadlineMs: 60_000 },
    logger: silentLogger,
    onAttached: (_vmId, live) => announced.push(live),
  });
  return { channels, attempts, announced };
}

describe('channels', () => {
  it('many callers share one attempt and one channel', async () => {
    const only = channel();
    const { channels, attempts, announced } = rig(async () => only);
    const got = await Promise.all(Array.from({ length: 20 }, () => channels.get('v')));
    expect(new Set(got)).toEqual(new Set([only]));
    expect(attempts).toEqual(['v']);
    expect(announced).toEqual([only]);
    expect(channels.live('v')).toBe(only);
  });

  it('tries again while the agent does not answer', async () => {
    const only = channel();
    const { channels, attempts } = rig(async (_vmId, attempt) => {
      if (attempt < 4) throw new KilnError('AGENT_TIMEOUT', 'silent');
      return only;
    });
    expect(await channels.get('v')).toBe(only);
    expect(attempts).toHaveLength(4);
  });

  it.each(['NOT_FOUND', 'VMM_EXITED', 'GUEST_CRASHED'] as const)('does not try again after %s', async (code) => {
    const { channels, attempts } = rig(async () => {
      throw new KilnError(code, 'gone');
    });
    await expect(channels.get('v')).rejects.toMatchObject({ code });
    expect(attempts).toHaveLength(1);
    await expect(channels.get('v')).rejects.toMatchObject({ code });
    expect(attempts).toHaveLength(2);
  });

  it('a lost channel is attached anew before anybody asks', async () => {
    const [first, second] = [channel(), channel()];
    const attached = Promise.withResolvers<void>();
    const { channels } = rig(async (_vmId, attempt) => {
      if (attempt === 1) return first;
      attached.resolve();
      return second;
    });
    await channels.get('v');
    first.lose();
    await attached.promise;
    expect(await channels.get('v')).toBe(second);
  });

  it('of a start is lent to the next one, and announced once', async () => {
    const only = channel();
    const { channels, announced, attempts } = rig(async () => channel());
    const lent: unknown[] = [];
    for (let round = 0; round < 2; round++) {
      await channels.open('v', async (live) => {
        lent.push(live);
        return startedWith(only);
      });
    }
    expect(lent).toEqual([undefined, only]);
    expect(await channels.get('v')).toBe(only);
    expect([announced, attempts]).toEqual([[only], []]);
  });

  it('nobody attaches while a start opens one, and whoever asks gets that one', async () => {
    const only = channel();
    const starting = Promise.withResolvers<StartedVm>();
    const { channels, attempts } = rig(async () => channel());
    const opened = channels.open('v', () => starting.promise);
    const asked = channels.get('v');
    starting.resolve(startedWith(only));
    expect([(await opened).agent, await asked]).toEqual([only, only]);
    expect(attempts).toEqual([]);
  });

  it('a start waits for an attach that is under way, and is lent what came of it', async () => {
    const [begun, only] = [Promise.withResolvers<void>(), channel()];
    const answer = Promise.withResolvers<AgentChannel>();
    const { channels } = rig(() => {
      begun.resolve();
      return answer.promise;
    });
    const asked = channels.get('v');
    await begun.promise;
    const opened = channels.open('v', async (live) => startedWith(live ?? channel()));
    answer.resolve(only);
    expect([await asked, (await opened).agent]).toEqual([only, only]);
  });

  it('of a VM that is ended is lent to what ends it, then let go of, and not attached anew', async () => {
    const only = channel();
    const { channels, attempts } = rig(async () => only);
    await channels.get('v');
    const lent = await channels.end('v', async (live) => {
      expect(await channels.get('v')).toBe(only);
      expect(only.detached).toBe(0);
      only.lose();
      await only.closed;
      await expect(channels.get('v')).rejects.toMatchObject({ code: 'NOT_FOUND' });
      return live;
    });
    expect(lent).toBe(only);
    expect(attempts).toHaveLength(1);
    expect(channels.live('v')).toBeUndefined();
  });

  it('of a VM that could not be ended is let go of, and may be had again', async () => {
    const made = [channel(), channel()];
    const { channels } = rig(async (_vmId, attempt) => made[attempt - 1] ?? channel());
    await channels.get('v');
    const failed = channels.end('v', async () => {
      throw new Error('it does not die');
    });
    await expect(failed).rejects.toThrow('it does not die');
    expect(made[0]?.detached).toBe(1);
    expect(await channels.get('v')).toBe(made[1]);
  });

  it('the end of a VM ends an attempt that is under way', async () => {
    const begun = Promise.withResolvers<void>();
    const { channels } = rig(
      (_vmId, _attempt, signal) =>
        new Promise((_, reject) => {
          signal?.addEventListener('abort', () => reject(signal.reason), { once: true });
          begun.resolve();
        }),
    );
    const waiting = channels.get('v');
    await begun.promise;
    await channels.end('v', async (live) => expect(live).toBeUndefined());
    await expect(waiting).rejects.toMatchObject({ code: 'NOT_FOUND' });
  });

  it('detaching lets go of every guest, and nobody gets a channel afterwards', async () => {
    const made = [channel(), channel()];
    const { channels, attempts } = rig(async (_vmId, attempt) => made[attempt - 1] ?? channel());
    await channels.get('a');
    await channels.get('b');
    await channels.detachAll();
    expect(made.map(({ detached }) => detached)).toEqual([1, 1]);
    await expect(channels.get('a')).rejects.toMatchObject({ code: 'CANCELLED' });
    expect(attempts).toHaveLength(2);
  });

  it('let go of the channel of a start that ends after all others were let go of', async () => {
    const { channels, announced } = rig(async () => channel());
    await channels.detachAll();
    const late = channel();
    await channels.open('a-1-1', async () => startedWith(late));
    expect([late.detached, announced, channels.attached]).toEqual([1, [], []]);
  });
});

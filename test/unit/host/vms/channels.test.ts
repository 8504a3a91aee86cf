import { describe, expect, it } from 'vitest';
import { KilnError } from '../../../../domain/failures.ts';
import { createVmChannels, type VmChannels } from '../../../../host/vms/channels.ts';
import type { AgentChannel } from '../../../../ports/guest-agent.ts';
import type { StartedVm } from '../../../../ports/vm-driver.ts';
import { silentLogger } from '../../../support/silent-logger.ts';

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
    connectTcp: none,
    serveEgress: none,
    usage: none,
    setClock: none,
    quiesce: none,
    shutdown: none,
  };
}

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

  it('is announced once, however often it is handed over', async () => {
    const only = channel();
    const { channels, announced } = rig(async () => only);
    channels.adopt('v', only);
    channels.adopt('v', only);
    expect(await channels.get('v')).toBe(only);
    expect(announced).toEqual([only]);
  });

  it('a forgotten VM is neither attached anew nor detached: its driver ends the channel', async () => {
    const only = channel();
    const { channels, attempts } = rig(async () => only);
    await channels.get('v');
    channels.forget('v');
    only.lose();
    await only.closed;
    expect(attempts).toHaveLength(1);
    expect(only.detached).toBe(0);
    expect(channels.live('v')).toBeUndefined();
  });

  it('forgetting ends an attempt that is under way', async () => {
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
    channels.forget('v');
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
    channels.adopt('a-1-1', late);
    expect([late.detached, announced, channels.attached]).toEqual([1, [], []]);
  });
});

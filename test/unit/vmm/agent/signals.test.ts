/** Names of signals as agents send them: a signal without a name of its own must not close the channel. */
import { describe, expect, it } from 'vitest';
import { FRAME } from '../../../../vmm/agent/frames.ts';
import { attached } from '../../../support/guest/scripted-guest.ts';

describe('a program that a signal ended', () => {
  it.each([
    ['SIGKILL', 'SIGKILL'],
    ['SIG34', 'SIG34'],
    ['SIG64', 'SIG64'],
    // Agents of earlier versions send this for all signals from 32 on.
    ['', 'SIGRT'],
  ])('"%s" is told as %s, by its exit and in the list, and the channel lives', async (sent, told) => {
    const { guest, agent } = await attached();
    const exit = { code: null, signal: sent, timedOut: false };
    const starting = agent.exec({ execId: 'e', argv: ['x'], output: 'wait' });
    await guest.receive(FRAME.open);
    guest.send(FRAME.opened, 1, '{"pid":7,"existed":false}');
    guest.send(FRAME.exit, 1, JSON.stringify(exit));
    expect(await (await starting).exit).toEqual({ ...exit, signal: told });
    const listing = agent.listExecs();
    guest.send(FRAME.data, 3, JSON.stringify([{ execId: 'e', pid: 7, exit }]));
    guest.send(FRAME.done, 3, '{}');
    expect(await listing).toEqual([{ execId: 'e', pid: 7, exit: { ...exit, signal: told } }]);
    await agent.detach();
  });
});

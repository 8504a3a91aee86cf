/** A guest that has more connections pending than the limit, or that asks for invalid names. */
import { describe, expect, it } from 'vitest';
import { KilnError } from '../../../../domain/failures.ts';
import { createEgressDialer } from '../../../../host/egress/dialer.ts';
import { FRAME } from '../../../../vmm/agent/frames.ts';
import { attached } from '../../../support/guest/scripted-guest.ts';

const EGRESS = '{"kind":"egress","name":"a.example","port":443}';
const { reset } = FRAME;

describe('a guest that opens and takes back', () => {
  it('has only so many wishes decided at a time; the rest are refused, and later ones are heard again', async () => {
    const { guest, agent } = await attached();
    let asked = 0;
    const decide: (() => void)[] = [];
    agent.serveEgress(async () => {
      asked += 1;
      await new Promise<void>((resolve) => decide.push(resolve));
      throw new KilnError('INTERNAL', 'no matter');
    });
    const resets = () => guest.received.filter(({ type }) => type === reset).length;
    for (let id = 2; id <= 4000; id += 2) {
      guest.send(FRAME.open, id, EGRESS);
      guest.send(reset, id, '{"code":"ECONNRESET","message":""}');
    }
    await expect.poll(() => resets() + asked).toBe(2000);
    expect(asked).toBe(256);
    for (const go of decide.splice(0)) go();
    await expect
      .poll(() => {
        guest.send(FRAME.open, 4002 + 2 * resets(), EGRESS);
        return asked;
      })
      .toBeGreaterThan(256);
    await agent.detach();
  });
});

describe('a program in the guest that connects to a name that is none', () => {
  it.each(['a-.example', 'a.b-', '-a', 'a.-b.example', '-'])(
    '%s: that stream is refused, the channel lives',
    async (name) => {
      const { guest, agent } = await attached();
      const dial = createEgressDialer({
        resolveMs: 1000,
        connectMs: 1000,
        maxAddresses: 1,
        maxLookups: 1,
        resolve: () => Promise.reject(new Error('asked for a name that is none')),
      });
      agent.serveEgress((request) => dial({ allow: [`${name}:443`, '*.example:443'], privateAllowed: [] }, request));
      guest.send(FRAME.open, 2, JSON.stringify({ kind: 'egress', name, port: 443 }));
      const refusal = await guest.receive(reset);
      expect(refusal.stream).toBe(2);
      expect(JSON.parse(refusal.payload.toString())).toEqual({ code: 'EGRESS_DENIED', message: 'not a host name' });
      const answer = agent.ping();
      guest.send(FRAME.pong, 0, (await guest.receive(FRAME.ping)).payload);
      await answer;
      await agent.detach();
    },
  );
});

/** A guest that asks for more connections than it may have decided at a time. */
import { describe, expect, it } from 'vitest';
import { KilnError } from '../../domain/failures.ts';
import { FRAME } from '../../vmm/agent/frames.ts';
import { attached } from '../support/scripted-guest.ts';

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

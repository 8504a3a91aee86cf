import { describe, expect, it } from 'vitest';
import { canMove, isFinal, isStage, STAGES, TRANSITIONS } from '../../../domain/workload/stages.ts';

describe('the transition table', () => {
  it('is exactly the promised one', () => {
    expect(TRANSITIONS).toEqual({
      pending: ['validate', 'stopped', 'failed'],
      validate: ['build', 'stopped', 'failed'],
      build: ['deploy', 'stopped', 'failed'],
      deploy: ['running', 'stopped', 'failed'],
      running: ['stopped', 'failed'],
      stopped: [],
      failed: [],
    });
  });

  it('lets a stop find a legal target in every stage that is not final', () => {
    for (const stage of STAGES) expect(canMove(stage, 'stopped')).toBe(!isFinal(stage));
  });

  it('knows its own names and no others', () => {
    expect(STAGES.every(isStage)).toBe(true);
    for (const value of ['', 'Pending', 'constructor', '__proto__', 3, null, undefined, {}]) {
      expect(isStage(value)).toBe(false);
    }
  });
});

import { describe, expect, it } from 'vitest';
import { recordedStage } from '../../../client/temporal/workloads/recorded-state.ts';

describe("the stage by Temporal's record", () => {
  it('of one that was ended from outside is failed, unless it had come to its own end', () => {
    for (const status of ['TERMINATED', 'TIMED_OUT', 'FAILED']) {
      expect(recordedStage(status, 'running')).toBe('failed');
      expect(recordedStage(status, undefined)).toBe('failed');
      expect(recordedStage(status, 'stopped')).toBe('stopped');
      expect(recordedStage(status, 'failed')).toBe('failed');
    }
  });

  it('of one that ended well is stopped, of one that runs what it says', () => {
    for (const status of ['COMPLETED', 'CANCELLED']) expect(recordedStage(status, undefined)).toBe('stopped');
    expect(recordedStage('RUNNING', 'build')).toBe('build');
    expect(recordedStage('RUNNING', 'stopped')).toBe('stopped');
    expect(recordedStage('RUNNING', 'paused')).toBe('pending');
  });
});

import type { ControlLogLine } from '../../activities/workload/service-types.ts';
import type { LogLevel } from '../../domain/logs/log-entry.ts';
import type { Stage } from '../../domain/workload/stages.ts';
import type { CarriedWorkload } from '../../domain/workload/workload-input.ts';
import { now } from './workload-progress.ts';

/** Lines of the control writer: numbered here, written when the books are closed. */
export class ControlLogLines {
  private readonly lines: ControlLogLine[] = [];
  private count: number;

  constructor(carried: Pick<CarriedWorkload, 'controlLogLines' | 'pendingLogLines'> | undefined) {
    this.count = carried?.controlLogLines ?? 0;
    this.lines.push(...(carried?.pendingLogLines ?? []));
  }

  /** Adds a line with the current time. */
  add(level: LogLevel, message: string, at: { readonly epoch: number; readonly stage: Stage }): void {
    this.lines.push({ epoch: at.epoch, n: this.count, timestamp: now(), stage: at.stage, level, message });
    this.count += 1;
  }

  /** What is not in the store yet. */
  get pending(): readonly ControlLogLine[] {
    return this.lines;
  }

  /** How many lines there are in all. */
  get total(): number {
    return this.count;
  }
}

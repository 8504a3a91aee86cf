import type { LogEntry, LogLevel } from '../../domain/logs/log-entry.ts';
import { type Colour, paint, plainText } from '../terminal/terminal-text.ts';

const COLOURS: Readonly<Record<LogLevel, Colour>> = { info: 'dim', warn: 'yellow', error: 'red' };

/** @returns a line of the log for people; what a service wrote cannot steer the terminal. */
export function logLine({ timestamp, stage, level, message }: LogEntry, color: boolean): string {
  return `${paint(timestamp, 'dim', color)}  ${stage.padEnd(8)}  ${paint(level.padEnd(5), COLOURS[level], color)}  ${plainText(message)}`;
}

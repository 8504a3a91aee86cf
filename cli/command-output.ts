import { plainText } from './terminal/terminal-text.ts';

/** Where a command puts its answer: documents on stdout with `--json`, lines for people otherwise; never both. */
export interface CommandOutput {
  readonly json: boolean;
  readonly color: boolean;
  /** Writes one JSON document on one line with `--json`, else the same as lines for people. */
  answer(document: unknown, lines: () => readonly string[]): void;
  /** Says something beside the answer, on stderr; with `--json` as `{"note"}`. */
  note(text: string): void;
}

export interface OutputStreams {
  readonly stdout: { write(text: string): unknown; readonly isTTY?: boolean | undefined; hasColors?(): boolean };
  readonly stderr: { write(text: string): unknown };
}

/** @returns the output of one command. */
export function commandOutput({ stdout, stderr }: OutputStreams, json: boolean): CommandOutput {
  return {
    json,
    color: !json && stdout.isTTY === true && (stdout.hasColors?.() ?? false),
    answer: (document, lines) => {
      const text = json ? [JSON.stringify(document)] : lines();
      if (text.length > 0) stdout.write(`${text.join('\n')}\n`);
    },
    note: (text) => {
      stderr.write(`${json ? JSON.stringify({ note: text }) : plainText(text)}\n`);
    },
  };
}

/** Regular expressions that earlier runs have judged safe: to judge all of them again takes a core most of a minute. */
import { readFileSync, writeFileSync } from 'node:fs';
import { z } from 'zod';

const keptSchema = z.object({ judge: z.string(), safe: z.array(z.string()) });

export class SafeExpressions {
  private readonly path: string;
  private readonly judge: string;
  private readonly safe: Set<string>;

  /** @param path file that keeps them. @param judge what has judged, with its version: another judges all anew */
  constructor(path: string, judge: string) {
    this.path = path;
    this.judge = judge;
    const kept = readKept(path);
    this.safe = new Set(kept?.judge === judge ? kept.safe : []);
  }

  /** @returns the verdict on a literal, which is only asked for if it is not known as safe */
  verdictOn(literal: string, ask: (literal: string) => string): string {
    const verdict = this.safe.has(literal) ? 'safe' : ask(literal);
    if (verdict === 'safe') this.safe.add(literal);
    return verdict;
  }

  /** Writes down those that are safe. */
  keep(): void {
    writeFileSync(this.path, JSON.stringify({ judge: this.judge, safe: [...this.safe] }));
  }
}

function readKept(path: string): z.infer<typeof keptSchema> | undefined {
  try {
    return keptSchema.parse(JSON.parse(readFileSync(path, 'utf8')));
  } catch {
    return undefined;
  }
}

export interface Verdict {
  readonly state: 'ok' | 'note' | 'wrong';
  readonly found: string;
  readonly fix?: string;
}
export const verdicts: Readonly<Record<string, (facts: Readonly<Record<string, unknown>>) => Verdict>>;

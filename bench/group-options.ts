/** What a group of measurements is given. */
export interface GroupOptions {
  /** Samples of Kiln to take. */
  readonly n: number;
  /** Sessions to have at a time, where a group of sessions asks; absent = the group's default. */
  readonly sessions?: number;
  /** Progress for a person, one line. */
  readonly say: (line: string) => void;
  /** An empty directory that is removed afterwards. */
  readonly directory: string;
  readonly signal: AbortSignal;
}

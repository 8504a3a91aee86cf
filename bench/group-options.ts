/** What a group of measurements is given. */
export interface GroupOptions {
  /** Samples of Kiln to take. */
  readonly n: number;
  /** Progress for a person, one line. */
  readonly say: (line: string) => void;
  /** An empty directory that is removed afterwards. */
  readonly directory: string;
  readonly signal: AbortSignal;
}

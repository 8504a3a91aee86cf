/** Prints a record of a run, as JSON or in words. */
export type Say = (record: Record<string, unknown>, text: string) => void;

/** What the host says of itself; pino's loggers fit. */
export interface HostLogger {
  info(details: object, message: string): void;
  warn(details: object, message: string): void;
  error(details: object, message: string): void;
}

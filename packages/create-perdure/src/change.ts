/** What happened to a file, or to an entry of package.json. */
export interface Change {
  /** Path from the project's folder, or `package.json: scripts dev`. */
  readonly what: string;
  readonly action: 'made' | 'added' | 'kept';
  /** Why it was kept, and what that means. */
  readonly note?: string;
}

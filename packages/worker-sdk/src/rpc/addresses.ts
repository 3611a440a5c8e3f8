/** Where a local server listens, as `perdure dev` starts it. */
export const DEFAULT_ADDRESS = '127.0.0.1:7300';
const DEFAULT_PORT = 7300;
const ADDRESS = /^(\[[\da-f:.%]+\]|[^\s:/[\]]+):(\d{1,5})$/i;

/**
 * @param address as given; default: environment variable PERDURE_ADDRESS, else {@link DEFAULT_ADDRESS}
 * @returns one `host:port` for each server
 * @throws {TypeError} naming the one that cannot be used, and what was probably meant
 */
export function parseAddresses(address: string): readonly string[] {
  return address.split(',').map((part) => {
    const trimmed = part.trim();
    const [, , port] = ADDRESS.exec(trimmed) ?? [];
    if (port !== undefined && Number(port) >= 1 && Number(port) <= 65_535) return trimmed;
    const suggestion = suggestAddress(trimmed);
    throw new TypeError(
      `The address must be host:port, several separated by commas, without a scheme; got ${JSON.stringify(trimmed)}.${
        suggestion === undefined ? '' : ` Did you mean ${JSON.stringify(suggestion)}?`
      }`,
    );
  });
}

/** Without scheme and path; with a port, and brackets around an IPv6 address. */
function suggestAddress(given: string): string | undefined {
  const bare = given.replace(/^[a-z][\w+.-]*:\/\//i, '').replace(/\/.*$/, '');
  const candidates = [bare, `${bare}:${DEFAULT_PORT}`, `[${bare}]:${DEFAULT_PORT}`];
  return bare === '' ? undefined : candidates.find((candidate) => ADDRESS.test(candidate));
}

// The decision, without the host.

/** A path with its query, and how many parameters it lost. */
export class Tidied {
  constructor(public path: string, public dropped: i32) {}
}

/** Drops the parameters whose names begin with one of these. The others keep their order and spelling. */
export function tidied(path: string, starts: string[]): Tidied {
  const at = path.indexOf("?");
  if (at < 0) return new Tidied(path, 0);
  const all = path.substring(at + 1).split("&");
  const kept: string[] = [];
  for (let i = 0; i < all.length; i++) {
    if (!begins(all[i], starts)) kept.push(all[i]);
  }
  const query = kept.length > 0 ? "?" + kept.join("&") : "";
  return new Tidied(path.substring(0, at) + query, all.length - kept.length);
}

function begins(parameter: string, starts: string[]): bool {
  for (let i = 0; i < starts.length; i++) {
    if (parameter.startsWith(starts[i])) return true;
  }
  return false;
}

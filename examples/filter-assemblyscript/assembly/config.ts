// Just enough JSON for this filter's configuration: an object with one string in it.

/** The words of a key's string. None when it is not there, or has escapes, which no parameter's name needs. */
export function words(json: string, key: string): string[] {
  const parts = json.split('"');
  // {, key, :, value, }
  const is_plain = parts.length == 5 && parts[0].trim() == "{" && parts[2].trim() == ":" && parts[4].trim() == "}";
  if (!is_plain || parts[1] != key || parts[3].includes("\\")) return [];
  return parts[3].split(" ").filter((word) => word.length > 0);
}

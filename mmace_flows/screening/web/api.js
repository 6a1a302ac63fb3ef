// Asking the server. Every failure is an ApiError with words for people and the fields at fault.

export class ApiError extends Error {
  constructor(status, problems) {
    super(problems.map((one) => one.message).join(" · "));
    this.status = status;
    this.problems = problems;
  }
}

let askForToken = null;
export const onTokenNeeded = (ask) => {
  askForToken = ask;
};

export async function get(path, { signal } = {}) {
  let answer;
  try {
    answer = await fetch(path, { signal, headers: { Accept: "application/json" } });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new ApiError(0, [{ field: null, message: "The server does not answer. Is `mmace serve` still running?" }]);
  }
  if (answer.status === 401 && askForToken) {
    await askForToken();
    return get(path, { signal });
  }
  const body = await answer.json().catch(() => null);
  if (!answer.ok) {
    const problems = Array.isArray(body?.detail) ? body.detail : [{ field: null, message: `error ${answer.status}` }];
    throw new ApiError(answer.status, problems);
  }
  return body;
}

export async function beginSession(token) {
  const answer = await fetch("/api/session", { method: "POST", headers: { Authorization: `Bearer ${token}` } });
  return answer.ok;
}

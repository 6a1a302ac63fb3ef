// Users of a project's database, for whoever runs the server. On the server: mongosh accounts.js
// Each password is asked for and never stands here. Change DATABASE for another project: one database per project, so
// that a worker can only write in its own.

const DATABASE = "mmace";
const admin = db.getSiblingDB("admin");

// begins, runs and reads campaigns: submitters and workers
admin.createUser({
  user: "mmace",
  pwd: passwordPrompt(),
  roles: [{ role: "readWrite", db: DATABASE }],
});

// only reads: `mmace status`, `mmace serve`, people who ask the table
admin.createUser({
  user: "mmace_reader",
  pwd: passwordPrompt(),
  roles: [{ role: "read", db: DATABASE }],
});

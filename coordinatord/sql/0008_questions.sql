-- Questions with a time limit in sessions that no worker holds: looked for every second.
CREATE INDEX session_question ON core.session ((asked ->> 'until') COLLATE "C") WHERE asked IS NOT NULL AND worker_id IS NULL;

-- What is kept of answers is in no dialect's words from now on. Nothing in the words before was released.
DELETE FROM stored_answers;

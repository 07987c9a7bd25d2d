"""What keeps each FAS server's authorization certificate in force: pure judgement, and the tick that obeys it."""

/* Memory that only starting needed. */
#pragma once

/* Gives back the pages of program and library code, which come again from the files when they are
 * run, and the free memory of the allocator. Data is not touched. A few milliseconds; call it once
 * when starting is over. */
void trim_after_start(void);

"""The teacher's answers, kept so that it runs once per example.

cache_teacher.py   `cache_teacher`: every example is asked about once
examples.py        the inputs of a data set, a batch at a time
index.py           which row an example is in
columns.py         answers of one kind, a row per example
answers.py         all rows of a cache, in memory or in shards
shards.py          a file of answers, read a row at a time
store.py           answers collected, in memory and in a folder of shards
teacher_cache.py   `TeacherCache`: answers found again by the bytes of an example
"""

"""What a teacher's vectors say of pairs: which are consistent, and which documents are hard negatives."""
